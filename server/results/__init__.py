"""What only looks at a run: summaries, tickets, reports, exports, verification."""
