"""The service contract: lotteryfl.proto and the code generated from it."""
