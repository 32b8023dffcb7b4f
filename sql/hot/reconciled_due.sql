SELECT DISTINCT place FROM {cells} WHERE expires <= $1
