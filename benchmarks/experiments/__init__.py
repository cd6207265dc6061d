"""The runs behind docs/experiments.md, in parts that go on where they were left: what has a record is not run again."""
