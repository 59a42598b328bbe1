"""Where the records of a file lie and what they hold, in memory-mapped arrays."""
