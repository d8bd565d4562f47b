package javax.annotation;

/** Marks generated code. Java 11 removed it, and the generated code uses it. */
public @interface Generated {
  String value();

  String date() default "";

  String comments() default "";
}
