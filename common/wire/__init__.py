"""What travels, and how: the tensor table, kept values and masks as payloads, their frames."""
