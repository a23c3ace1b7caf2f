"""What a request costs here and at a peer, in turn in one run: figures of one machine mean little, their ratio does."""
