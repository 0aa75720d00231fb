"""From a video to pseudo-labels: decoding, eight views, camera, rules, tables (Sec. 5.1)."""
