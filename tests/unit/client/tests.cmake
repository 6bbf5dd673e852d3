rh_unit_test(client ledger base wire net)
rh_unit_test(client client base wire net)
