"""What was timed and what is kept, for people: table, chart, and the two nodes that show them.

In: rows of `timing`, statistics of `caches` and `replay`. Out: text and an IMAGE.
"""
