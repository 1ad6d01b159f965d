"""What is found, planned and done, put into words once: plain lines, which the command line and the screen lay out."""
