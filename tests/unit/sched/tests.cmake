foreach(name rules prefetch)
  rh_unit_test(sched ${name} base wire)
endforeach()
