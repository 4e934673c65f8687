"""What holds for the tree as a whole: the style guide, the conformance statement, dependencies, the
benchmarks' own tools and the fault shims.
"""
