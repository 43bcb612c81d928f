"""What passes between a robot and those who steer its fleet: commands and results, twins, presence."""
