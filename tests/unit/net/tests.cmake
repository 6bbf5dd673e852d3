rh_unit_test(net socket base wire)
