"""Who may take part in a run: certificates, tokens, and the clients that a worker may hold."""
