"""What a race leaves to read: the terminal's table, a page, pictures and TensorBoard's tabs."""
