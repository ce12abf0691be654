import remarkMath from 'remark-math';
import rehypeKatex from 'rehype-katex';

export default {
  title: 'A course of tests',
  url: 'https://course.example',
  baseUrl: '/book/',
  onBrokenLinks: 'ignore',
  i18n: {defaultLocale: 'en', locales: ['en', 'fr']},
  presets: [
    [
      'classic',
      {
        docs: {
          editUrl: 'https://course.example/repository/',
          remarkPlugins: [remarkMath],
          rehypePlugins: [rehypeKatex],
        },
        blog: false,
      },
    ],
  ],
  themeConfig: {
    navbar: {title: 'Navigation of the course', items: [{type: 'docSidebar', sidebarId: 'docs', label: 'Lessons'}, {type: 'docsVersionDropdown'}]},
    footer: {copyright: 'Footer of the course'},
  },
};
