"""When a turn ends: questions with a pause in the middle and without, through detector, listener and models, not in real time."""
