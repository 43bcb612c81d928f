"""The site's FAQ: read, searched by words and by meaning, and answered only when sure."""
