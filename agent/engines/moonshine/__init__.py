"""The network of Moonshine and its vocabulary, apart from when it is asked."""
