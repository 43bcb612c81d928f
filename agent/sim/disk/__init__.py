"""A disk that records what is done to it, fails when told to, and shows what a power cut could have left."""
