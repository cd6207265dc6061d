"""The site: what mkdocs makes of docs/, and of what the code says of itself (docs/decisions/0037-the-site.md)."""
