"""Who a peer is, and how a channel to it is secured."""
