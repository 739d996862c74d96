"""The whole service around a runner that only sleeps: control behaviour far beyond what the cores can compute."""
