"""What only looks: summaries, reports, exports, verification."""
