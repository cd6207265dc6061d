"""Options that several commands take, each written once.

Imports neither torch nor gRPC: `lotteryfl status`, the containers' health check, needs it all.
"""
