DROP TABLE rescan_object, correction;
