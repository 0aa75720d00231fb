"""The synthetic world: a stand-in hand, scenes, a rasteriser, and writers in the real data sets' formats."""
