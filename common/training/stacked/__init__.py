"""Several models of one shape trained as one, with a dimension for who of them: a row each."""
