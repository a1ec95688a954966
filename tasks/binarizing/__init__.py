"""What the stage `binarize` is made of: encoders, jobs over row groups, and the proof of the ids."""
