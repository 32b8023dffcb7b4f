DELETE FROM incoming AS i USING batch AS b WHERE {equal}
