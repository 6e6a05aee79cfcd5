-- Points are read by their series, or by their number from a place on: each of the other indexes cost every report a row.
DROP INDEX am_profile_points_new;
DROP INDEX am_profile_points_age;
