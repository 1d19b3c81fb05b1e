"""One harness for all methods: answers, statistics, results and tables."""
