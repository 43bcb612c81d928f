"""`bench talk`: a robot in a process of its own, in a hall of virtual sound devices, measured between microphone and loudspeaker."""
