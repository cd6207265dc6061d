"""The global model from the clients' results: `aggregate` goes block by block, `rules` say what becomes of a block."""
