dist_man_MANS += man/echod.8
