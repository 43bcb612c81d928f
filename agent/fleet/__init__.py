"""Who steers a robot from afar: commands, the twin, presence, telemetry, alarms; and the desk of those who steer."""
