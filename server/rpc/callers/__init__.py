"""Who calls: what they show, whether it still holds, and the certificate that the coordinator shows."""
