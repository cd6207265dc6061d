"""The board: records side by side, as a static page that asks nobody for anything."""
