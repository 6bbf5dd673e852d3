rh_unit_test(net socket base wire)
rh_unit_test(net shm base wire)
rh_unit_test(net codec base wire)
