"""The judge: users in blocks become ranks, ranks become rows, intervals and paired tests."""
