dist_man_MANS += man/echod.8 man/echoprobe.1
