foreach(name bufs fault glob query record memory none sqlite)
  rh_unit_test(store ${name} base wire)
endforeach()
