"""run.db: its tables and their versions, its rows, and all queries of them but what is only looked at."""
