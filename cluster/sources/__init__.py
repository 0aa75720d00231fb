"""Where inputs come from: videos and data sets in folders, in object storage and in tar shards."""
