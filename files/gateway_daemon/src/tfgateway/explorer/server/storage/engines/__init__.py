"""The engines that the explorer can keep its data in."""
