"""Files of a store on disk or in object storage: durable writes, bounded reads."""
