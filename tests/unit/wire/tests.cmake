foreach(name compose connfile msg replay scan session)
  rh_unit_test(wire ${name} base)
endforeach()
