"""The tests, in folders as the code has them; real processes are in integration, chaos and fuzz."""
