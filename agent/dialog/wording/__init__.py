"""The pure text decisions of a conversation: what may be said, what was meant, and how it is written for a voice."""
