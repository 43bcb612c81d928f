"""The soak: one robot with real models converses for hours, and what it holds must not grow."""
