UPDATE {cells} SET value = NULL, expires = NULL WHERE expires <= $1
