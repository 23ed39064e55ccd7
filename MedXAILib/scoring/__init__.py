"""What is explained: targets, and the scores of inputs."""
