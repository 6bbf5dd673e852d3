foreach(name fault glob query record memory none)
  rh_unit_test(store ${name} base wire)
endforeach()
