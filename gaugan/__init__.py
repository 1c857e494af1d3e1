"""From label maps to painted portraits: the PyTorch library under the cluster jobs.

Imports nothing heavy: `import gaugan` costs no torch. Floors and conventions: docs/architecture.md.
"""

__version__ = "0.1.0"
